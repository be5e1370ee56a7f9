//! Addresses: every spelling, what is embedded in them, and which are nobody's business.
