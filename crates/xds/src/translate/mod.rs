//! Services, endpoints and rules as xDS resources, and back.
