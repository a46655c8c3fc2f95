//! The page for people: a single file that requests nothing from the server but the stream of
//! figures.

/// The page.
pub const PAGE: &str = include_str!("page/page.html");

/// Its content type.
pub const HTML: &str = "text/html; charset=utf-8";

/// The page's `Content-Security-Policy`: it may run its own script and connect to its own server.
pub const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'self'";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::FIGURES;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for word in ["http://", "https://", "//cdn", "<link rel=\"stylesheet", " src=", "@import"] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }

    #[test]
    fn the_page_knows_every_figure() {
        for figure in &FIGURES {
            assert!(
                PAGE.contains(&format!("{}:", figure.key))
                    || PAGE.contains(&format!("\"{}\"", figure.key)),
                "{}",
                figure.key
            );
        }
    }
}
