//! `sse_jwt_require`: the claims that a token must have.

use super::claims::Claims;

/// The claims that a token must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    claims: Vec<RequiredClaim>,
    /// Whether a token may have no `exp` (`exp=optional`).
    may_last_forever: bool,
}

/// A claim that must be there, with one of the values if there are any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RequiredClaim {
    name: String,
    values: Vec<String>,
}

/// Why an argument is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    /// An argument begins with `=`.
    #[error("a name of a claim is missing")]
    NoName,
    /// An argument is not UTF-8.
    #[error("a claim is not UTF-8")]
    NotUtf8,
    /// The argument `exp=` has another value than `optional`.
    #[error("\"exp\" can only be \"optional\"")]
    Expiry,
    /// A claim may have any value, or only certain ones.
    #[error("a claim is listed both with and without a value")]
    Contradiction,
}

impl Requirements {
    /// Parses arguments `NAME` and `NAME=VALUE`.
    pub fn parse(arguments: &[&[u8]]) -> Result<Requirements, RequirementError> {
        let mut requirements = Requirements::default();
        for argument in arguments {
            let text = std::str::from_utf8(argument).map_err(|_| RequirementError::NotUtf8)?;
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            match (name, value) {
                ("", _) => return Err(RequirementError::NoName),
                ("exp", Some("optional")) => requirements.may_last_forever = true,
                ("exp", Some(_)) => return Err(RequirementError::Expiry),
                _ => requirements.add(name, value)?,
            }
        }
        Ok(requirements)
    }

    fn add(&mut self, name: &str, value: Option<&str>) -> Result<(), RequirementError> {
        let known = self.claims.iter_mut().find(|claim| claim.name == name);
        match (known, value) {
            (None, value) => {
                let values = value.into_iter().map(str::to_owned).collect();
                self.claims.push(RequiredClaim { name: name.to_owned(), values });
            }
            (Some(known), Some(value)) if !known.values.is_empty() => {
                known.values.push(value.to_owned());
            }
            (Some(known), None) if known.values.is_empty() => {}
            (Some(_), _) => return Err(RequirementError::Contradiction),
        }
        Ok(())
    }

    /// Returns the name of a claim that is missing, or that has another value than it must have.
    pub fn unmet<'r>(&'r self, claims: &Claims) -> Option<&'r str> {
        if claims.expires.is_none() && !self.may_last_forever {
            return Some("exp");
        }
        let is_met = |claim: &RequiredClaim| {
            if claim.values.is_empty() {
                claims.has(&claim.name)
            } else {
                claims.has_any(&claim.name, &claim.values)
            }
        };
        self.claims.iter().find(|claim| !is_met(claim)).map(|claim| claim.name.as_str())
    }

    /// Whether a claim must have a certain value.
    pub fn has_value(&self) -> bool {
        self.claims.iter().any(|claim| !claim.values.is_empty())
    }

    /// Returns how many values a claim with this name may have; 0 if any.
    pub fn number_of_values(&self, name: &str) -> usize {
        self.claims.iter().find(|claim| claim.name == name).map_or(0, |claim| claim.values.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet(arguments: &[&str], claims: &str) -> Option<String> {
        let arguments: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
        let claims = Claims::parse(claims.as_bytes()).unwrap();
        Requirements::parse(&arguments).unwrap().unmet(&claims).map(str::to_owned)
    }

    #[test]
    fn exp_is_required_unless_it_is_optional() {
        assert_eq!(unmet(&[], "{}"), Some("exp".into()));
        assert_eq!(unmet(&["aud=a"], r#"{"aud":"a"}"#), Some("exp".into()));
        assert_eq!(unmet(&["exp=optional"], "{}"), None);
        assert_eq!(unmet(&[], r#"{"exp":1}"#), None);
    }

    #[test]
    fn a_claim_is_or_contains_one_of_the_values() {
        let aud = &["exp=optional", "aud=a", "aud=b"];
        for claims in [r#"{"aud":"a"}"#, r#"{"aud":["x","b"]}"#] {
            assert_eq!(unmet(aud, claims), None, "{claims}");
        }
        for claims in
            [r#"{"aud":"ab"}"#, r#"{"aud":["x"]}"#, r#"{"aud":{"a":1}}"#, r#"{"aud":null}"#, "{}"]
        {
            assert_eq!(unmet(aud, claims), Some("aud".into()), "{claims}");
        }
        assert_eq!(unmet(&["exp=optional", "admin=true"], r#"{"admin":true}"#), None);
        assert_eq!(unmet(&["exp=optional", "level=3"], r#"{"level":3}"#), None);
        assert_eq!(unmet(&["exp=optional", "level"], r#"{"level":null}"#), Some("level".into()));
        assert_eq!(unmet(&["exp=optional", "level"], r#"{"level":[]}"#), None);
    }

    #[test]
    fn invalid_arguments_are_refused() {
        let parse = |arguments: &[&[u8]]| Requirements::parse(arguments).unwrap_err();
        assert_eq!(parse(&[b"=x"]), RequirementError::NoName);
        assert_eq!(parse(&[b"exp=5"]), RequirementError::Expiry);
        assert_eq!(parse(&[b"a", b"a=1"]), RequirementError::Contradiction);
        assert_eq!(parse(&[b"a=1", b"a"]), RequirementError::Contradiction);
        assert_eq!(parse(&[b"a=\xff"]), RequirementError::NotUtf8);
    }

    #[test]
    fn the_number_of_values_that_a_claim_may_have_is_known() {
        let parse = |arguments: &[&[u8]]| Requirements::parse(arguments).unwrap();
        let required = parse(&[b"aud=a", b"sub", b"aud=b", b"sub", b"exp=optional"]);
        assert!(required.has_value());
        let numbers = ["aud", "sub", "exp", "iss"].map(|name| required.number_of_values(name));
        assert_eq!(numbers, [2, 0, 0, 0]);
        assert!(!parse(&[b"sub", b"exp"]).has_value() && !parse(&[]).has_value());
    }
}
