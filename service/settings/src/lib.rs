//! Every setting of driftline, defined once.
//!
//! * [`table`]: the settings as constant data, one file for each family.
//! * [`kind`]: the grammars of their values.
//! * [`Settings`]: reads values from the environment and from a configuration file, and reports every problem at once.
//! * [`document`]: `--help`, `docs/settings.md` and `deploy/driftline.toml`, generated from the table.
//!
//! A program turns the settings into a struct of its own in one place:
//!
//! ```no_run
//! use driftline_settings::{Program, Settings, table};
//! let mut settings = Settings::of_process(Program::Enricher, None);
//! let park = settings.get(&table::PARK_MS);
//! settings.finish()?; // lists what is wrong, all of it
//! # Ok::<(), driftline_settings::SettingsError>(())
//! ```
//!
//! The environment wins over the file. In the file, the table of a program (`[enricher]`) wins over the top level.
//!
//! What is deliberately absent: what a value means. A program maps the words of a choice to its own types, and checks what
//! only it can check (a file's content, a regular expression), with [`Settings::refuse`].

pub mod document;
mod file;
pub mod kind;
mod nearest;
mod setting;
mod settings;
pub mod table;

pub use setting::{Described, Program, Setting};
pub use settings::{Settings, SettingsError};
