//! The proof: stories on real clusters, fault injection and benches.
