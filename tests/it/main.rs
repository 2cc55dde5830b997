//! Behaviours of hooklog, one module each.
