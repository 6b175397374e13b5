//! Where ipvsadm meets this director: [`convert`] says what of its table the director can do, [`names`] looks up hosts and services.

pub mod convert;
pub mod names;
