//! `driftline images`: publishes the content of images, and shows, checks and removes publications.

mod add;
mod catalogue;
mod list;
mod remove;
mod show;
mod source;
mod verify;

pub(crate) use add::{Add, add};
pub(crate) use catalogue::ViewpointOptions;
pub(crate) use list::{Which, list};
pub(crate) use remove::{Remove, remove};
pub(crate) use show::{Show, show};
pub(crate) use verify::{Unverifiable, verify};
