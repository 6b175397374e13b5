//! Header views over bytes.
