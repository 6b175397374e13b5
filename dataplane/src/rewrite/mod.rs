//! Rewriting packets in place.
