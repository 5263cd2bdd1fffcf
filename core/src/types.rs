//! The tab types, one file each.
