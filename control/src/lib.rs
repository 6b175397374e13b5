//! The control core of shunt.
