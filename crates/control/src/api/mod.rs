//! REST: everything the command line and a console need.
