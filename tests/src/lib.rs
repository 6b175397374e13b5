//! End-to-end tests of shunt.
