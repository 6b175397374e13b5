//! From plan to snapshot.
