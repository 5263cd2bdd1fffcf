//! The macro that turns the table of settings into structs, and the entry each setting gets in it.

use std::any::TypeId;

use super::{Config, Secret};

/// The section whose settings are written without a section name.
const TOP_SECTION: &str = "server";

/// Settings that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The field of [`Config`] they are in.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static str,
    /// The settings, in the order of their declaration.
    pub settings: &'static [Setting],
}

impl Section {
    /// All sections, in the order of their declaration.
    #[must_use]
    pub fn all() -> &'static [Self] {
        super::SECTIONS
    }

    /// Whether its settings are written without its name.
    #[must_use]
    pub fn is_top(&self) -> bool {
        self.name == TOP_SECTION
    }

    /// Its documentation as one paragraph.
    #[must_use]
    pub fn prose(&self) -> String {
        one_paragraph(self.doc)
    }
}

/// One setting as flags, environment, file and help see it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name of its section.
    pub section: &'static str,
    /// Its name in the section.
    pub field: &'static str,
    /// Effect, unit, edge values and who should change it.
    pub doc: &'static str,
    /// Its default, written as in a flag.
    pub default: &'static str,
    /// Parses a value into a configuration; the error is what is allowed.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// What stands for its value in help texts.
    pub(super) placeholder: fn() -> &'static str,
    /// The type its values are parsed into.
    pub(super) value_type: fn() -> TypeId,
}

impl Setting {
    /// The settings of all sections.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        Section::all().iter().flat_map(|section| section.settings)
    }

    /// The setting with a key, as in a file: `listen`, `limits.posts_max`.
    #[must_use]
    pub fn by_key(key: &str) -> Option<&'static Self> {
        Self::all().find(|setting| setting.key() == key)
    }

    /// Whether it is written without a section name.
    #[must_use]
    pub fn is_top(&self) -> bool {
        self.section == TOP_SECTION
    }

    /// Whether only servers of a cluster look at it.
    #[must_use]
    pub fn is_of_clusters(&self) -> bool {
        self.section == "redis" || ["roles", "sentinel", "shards"].contains(&self.key().as_str())
    }

    /// Whether only the embedded store looks at it.
    #[must_use]
    pub fn is_of_the_embedded_store(&self) -> bool {
        self.section == "store" || self.key() == "data"
    }

    /// Its name in a file.
    #[must_use]
    pub fn key(&self) -> String {
        if self.is_top() { self.field.to_owned() } else { format!("{}.{}", self.section, self.field) }
    }

    /// Its flag, without the leading `--`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key().replace(['.', '_'], "-")
    }

    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("TABA_{}", self.key().replace('.', "_").to_uppercase())
    }

    /// Whether its value must not be shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        (self.value_type)() == TypeId::of::<Option<Secret>>()
    }

    /// Its documentation as one paragraph.
    #[must_use]
    pub fn prose(&self) -> String {
        one_paragraph(self.doc)
    }
}

/// Joins the lines of a doc comment.
fn one_paragraph(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Declares sections of settings. Each entry is `name: Type = "default", kind;` under a doc comment;
/// the default is written as a user would write it and parsed by the same kind.
macro_rules! settings {
    (
        $(#[doc = $config_doc:literal])+
        $config:ident {
            $(
                $(#[doc = $section_doc:literal])+
                $section:ident: $struct:ident {
                    $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:literal, $kind:expr; )+
                }
            )+
        }
    ) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug)]
            pub struct $struct {
                $(
                    $(#[doc = $doc])+
                    #[doc = concat!("\n\nDefaults to `", $default, "`.")]
                    pub $field: $type,
                )+
            }

            impl Default for $struct {
                fn default() -> Self {
                    Self {
                        $( $field: $kind.parse($default).expect("a test parses every default"), )+
                    }
                }
            }
        )+

        $(#[doc = $config_doc])+
        #[derive(Clone, Debug, Default)]
        pub struct $config {
            $( $(#[doc = $section_doc])+ pub $section: $struct, )+
        }

        static SECTIONS: &[Section] = &[ $(
            Section {
                name: stringify!($section),
                doc: concat!($($section_doc, "\n"),+),
                settings: &[ $(
                    Setting {
                        section: stringify!($section),
                        field: stringify!($field),
                        doc: concat!($($doc, "\n"),+),
                        default: $default,
                        set: |config, text| {
                            config.$section.$field = $kind.parse(text)?;
                            Ok(())
                        },
                        placeholder: || {
                            let kind: $crate::config::kind::Kind<$type> = $kind;
                            kind.placeholder
                        },
                        value_type: std::any::TypeId::of::<$type>,
                    },
                )+ ],
            },
        )+ ];
    };
}

pub(super) use settings;
