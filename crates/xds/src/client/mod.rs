//! The client: subscribes, applies, acknowledges, reconnects.
