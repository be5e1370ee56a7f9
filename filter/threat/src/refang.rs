//! Undoes the usual ways of making a link harmless.
