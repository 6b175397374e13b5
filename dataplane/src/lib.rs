//! What a worker does with a packet.
