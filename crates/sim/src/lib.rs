//! The simulator: models of servers and their callers, in simulated time, driving the code that ships.
#![forbid(unsafe_code)]
