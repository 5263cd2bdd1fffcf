//! What a server process does besides answering: which traffic it gets, and which work in the background.

use std::fmt;

/// Any mix of roles, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Takes posts and queries.
    pub frontend: bool,
    /// Applies queues.
    pub backend: bool,
    /// Serves what people and the operator ask about the cluster.
    pub control: bool,
}

impl Roles {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut roles = Self { frontend: false, backend: false, control: false };
        for role in text.split(',') {
            let slot = match role.trim() {
                "frontend" => &mut roles.frontend,
                "backend" => &mut roles.backend,
                "control" => &mut roles.control,
                _ => return None,
            };
            // Twice the same is a slip, not a wish.
            if std::mem::replace(slot, true) {
                return None;
            }
        }
        Some(roles)
    }

    fn held(self, names: [&str; 3]) -> Vec<&str> {
        let held = [self.frontend, self.backend, self.control];
        names.into_iter().zip(held).filter_map(|(name, held)| held.then_some(name)).collect()
    }

    /// As the first Taba wrote them, and `ctl`.
    #[must_use]
    pub fn short_names(self) -> Vec<&'static str> {
        self.held(["fe", "be", "ctl"])
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.held(["frontend", "backend", "control"]).join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_survive_their_text_form_and_slips_are_refused() {
        for text in ["frontend", "backend", "frontend,backend", "frontend,backend,control"] {
            assert_eq!(Roles::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "frontend,", "frontend,frontend", "front"] {
            assert_eq!(Roles::parse(text), None, "{text}");
        }
    }
}
