//! Entries of streams, as they are read.

use ::redis::Value;

use super::link::skipped_length;
use super::message::{allowed, is_finish, utf8};
use crate::hub::ReportedId;
use crate::sse::finish;

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: ReportedId,
    /// The id of the previous entry, if the publish script wrote it.
    pub prev: Option<ReportedId>,
    /// How many events precede it in its run, if the publish script wrote it.
    pub number: Option<u64>,
    /// Its type; empty if it has none.
    pub event_type: Vec<u8>,
    /// Its data.
    pub data: Vec<u8>,
    /// The length in bytes of the longest of its values that were too large to be read; 0 if it is
    /// complete.
    pub skipped: u64,
}

impl Entry {
    /// Returns whether it is not an event, but the finish of a run.
    pub fn is_finish(&self) -> bool {
        self.event_type == finish::EVENT_TYPE
    }

    /// Returns the bytes of memory that it takes.
    pub fn size(&self) -> usize {
        size_of::<Entry>() + self.event_type.len() + self.data.len()
    }
}

/// Returns the entries in a reply to XRANGE or XREVRANGE, in the same order. Everything that is not
/// an entry is skipped. The data of an entry that the script did not write is its field `data`, or
/// else its only field, or else a JSON object of its fields. The type is its field `event`, if
/// there is one. An entry with the field `sse.finish` is the finish of a run, and has no data.
pub fn entries(value: &Value) -> Vec<Entry> {
    list(value).iter().filter_map(entry).collect()
}

fn entry(value: &Value) -> Option<Entry> {
    let [id, fields] = list(value) else {
        return None;
    };
    let id = ReportedId::parse(bytes(id)?)?;
    let skipped = longest_skipped(fields);
    let fields = pairs(fields)?;
    let field =
        |name: &[u8]| fields.iter().find(|(field, _)| *field == name).map(|&(_, content)| content);
    let prev = field(b"prev").and_then(ReportedId::parse);
    let number = field(b"run").filter(|_| prev.is_some()).and_then(parse_number);
    let data = match field(b"data") {
        Some(data) => utf8(data).into_owned(),
        None => data_of_others(&fields, prev.is_some()),
    };
    let given = field(b"event").unwrap_or_default();
    let is_scripts = prev.is_some() && field(b"data").is_some_and(|data| is_finish(given, data));
    let (event_type, data) = if is_scripts || field(finish::FIELD).is_some() {
        (finish::EVENT_TYPE.to_vec(), Vec::new())
    } else {
        (allowed(given).to_vec(), data)
    };
    Some(Entry { id, prev, number, event_type, data, skipped })
}

/// Parses a number in decimal notation.
fn parse_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Returns the data of an entry without a field `data`: its only field other than the type and
/// those of the script, or a JSON object of all of these.
fn data_of_others(fields: &[(&[u8], &[u8])], has_prev: bool) -> Vec<u8> {
    let others: Vec<_> = fields
        .iter()
        .filter(|(name, _)| *name != b"event" && !(has_prev && *name == b"prev"))
        .collect();
    match others[..] {
        [] => Vec::new(),
        [(_, only)] => utf8(only).into_owned(),
        ref several => {
            let members: Vec<_> = several
                .iter()
                .map(|(name, content)| format!("{}:{}", json(name), json(content)))
                .collect();
            format!("{{{}}}", members.join(",")).into_bytes()
        }
    }
}

fn json(text: &[u8]) -> serde_json::Value {
    String::from_utf8_lossy(text).into()
}

/// Returns the length of the longest of an entry's values that were skipped.
fn longest_skipped(fields: &Value) -> u64 {
    let longest =
        |values: &mut dyn Iterator<Item = &Value>| values.filter_map(skipped_length).max();
    let longest = match fields {
        Value::Map(map) => longest(&mut map.iter().flat_map(|(name, text)| [name, text])),
        _ => longest(&mut list(fields).iter()),
    };
    longest.unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(list) => list,
        _ => &[],
    }
}

fn pairs(value: &Value) -> Option<Vec<(&[u8], &[u8])>> {
    match value {
        Value::Map(map) => {
            map.iter().map(|(name, text)| Some((bytes(name)?, bytes(text)?))).collect()
        }
        _ => {
            let pairs = list(value).chunks(2);
            pairs.map(|pair| Some((bytes(pair.first()?)?, bytes(pair.get(1)?)?))).collect()
        }
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        Value::Okay => Some(b"OK"),
        // It was skipped.
        Value::BigNumber(_) => Some(b""),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::id::EntryId;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn texts(list: &[&str]) -> Value {
        Value::Array(list.iter().map(|item| text(item)).collect())
    }

    /// Type and data of an entry with these fields.
    fn read(fields: &[&str]) -> (String, String) {
        let page = Value::Array(vec![Value::Array(vec![text("7-1"), texts(fields)])]);
        let entries = entries(&page);
        assert_eq!(entries[0].id, EntryId { ms: 7, seq: 1 }.into());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (text(&entries[0].event_type), text(&entries[0].data))
    }

    #[test]
    fn entries_have_their_data_where_applications_put_it() {
        let read = |fields: &[&str]| {
            let (event_type, data) = read(fields);
            format!("{event_type}|{data}")
        };
        assert_eq!(read(&["data", "D", "event", "E", "prev", "6-0"]), "E|D");
        assert_eq!(read(&["data", "D", "other", "O"]), "|D");
        // The script adds `prev`, whatever else an entry has.
        assert_eq!(read(&["payload", "P", "prev", "6-0"]), "|P");
        assert_eq!(read(&["payload", "P"]), "|P");
        assert_eq!(read(&["event", "E", "payload", "P"]), "E|P");
        assert_eq!(read(&["event", "E"]), "E|");
        assert_eq!(read(&["event", "error", "data", "D"]), "|D");
        assert_eq!(read(&["b", "1", "a", "\"\n"]), r#"|{"b":"1","a":"\"\n"}"#);
        assert_eq!(read(&["prev", "first", "next", "last"]), r#"|{"prev":"first","next":"last"}"#);
    }

    #[test]
    fn a_finish_is_read_as_an_event_of_its_own_type() {
        let finish = ("sse.finish".to_owned(), String::new());
        assert_eq!(read(&["data", "", "event", "sse.finish", "prev", "1-0"]), finish);
        assert_eq!(read(&["sse.finish", "1"]), finish);
        assert_eq!(read(&["data", "x", "sse.finish", ""]), finish);
        // These are an application's own.
        let none = |data: &str| (String::new(), data.to_owned());
        assert_eq!(read(&["data", "", "event", "sse.finish"]), none(""));
        assert_eq!(read(&["data", "x", "event", "sse.finish", "prev", "1-0"]), none("x"));
        assert_eq!(read(&["finish", "1"]), none("1"));
    }

    #[test]
    fn an_entry_takes_the_memory_of_its_type_and_data() {
        let size = |kind: &str, data: &str| {
            let fields = texts(&["event", kind, "data", data]);
            let page = Value::Array(vec![Value::Array(vec![text("7-1"), fields])]);
            entries(&page)[0].size()
        };
        let none = size("", "");
        assert_eq!(size("", &"x".repeat(1_000)), none + 1_000);
        assert_eq!(size(&"t".repeat(100), &"x".repeat(1_000)), none + 1_100);
        assert!(none > 0);
    }

    #[test]
    fn anything_but_an_entry_is_skipped() {
        let good = Value::Array(vec![text("7-1"), texts(&["data", "D", "prev", "6-5"])]);
        let bad = [
            Value::Nil,
            Value::Array(vec![text("7-1")]),
            Value::Array(vec![text("7-1"), Value::Array(vec![text("data")])]),
            Value::Array(vec![text("7-1"), Value::Array(vec![text("data"), Value::Int(1)])]),
            Value::Array(vec![text("seven"), texts(&["data", "D"])]),
            Value::Array(vec![text("7-1-1"), texts(&["data", "D"])]),
        ];
        let page = Value::Array(bad.into_iter().chain([good]).collect());
        let read = entries(&page);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].prev, Some(EntryId { ms: 6, seq: 5 }.into()));
        assert_eq!(entries(&Value::Nil), []);
    }

    #[test]
    fn an_entry_has_the_length_of_its_longest_skipped_value() {
        let number = |text: &str| Value::BigNumber(text.into());
        let of = |fields: Vec<Value>| {
            let entry = Value::Array(vec![text("7-1"), Value::Array(fields)]);
            let entries = entries(&Value::Array(vec![entry]));
            (entries[0].id.ms(), entries[0].skipped)
        };
        assert_eq!(of(vec![text("data"), number("700"), text("prev"), text("6-5")]), (7, 700));
        assert_eq!(of(vec![number("90"), text("a"), text("b"), number("800")]), (7, 800));
        assert_eq!(of(vec![text("data"), text("a")]), (7, 0));
    }

    #[test]
    fn the_place_of_an_entry_in_its_run_is_only_read_from_the_script() {
        let number = |fields: &[&str]| {
            let page = Value::Array(vec![Value::Array(vec![text("7-1"), texts(fields)])]);
            entries(&page)[0].number
        };
        assert_eq!(number(&["data", "D", "prev", "6-0", "run", "0"]), Some(0));
        assert_eq!(number(&["data", "D", "prev", "6-0", "run", "12"]), Some(12));
        assert_eq!(number(&["data", "D", "prev", "6-0", "run", "-1"]), None);
        assert_eq!(number(&["data", "D", "prev", "6-0", "run", ""]), None);
        assert_eq!(number(&["data", "D", "prev", "6-0"]), None);
        assert_eq!(number(&["data", "D", "run", "12"]), None);
        assert_eq!(number(&["data", "D", "prev", "six", "run", "12"]), None);
    }

    #[test]
    fn entries_are_read_in_every_form_in_which_a_client_may_return_them() {
        let verbatim =
            Value::VerbatimString { format: ::redis::VerbatimFormat::Text, text: "V".into() };
        let simple = || Value::SimpleString("data".into());
        for (value, data) in
            [(text("D"), "D"), (verbatim, "V"), (Value::Okay, "OK"), (simple(), "data")]
        {
            let list = Value::Array(vec![simple(), value.clone()]);
            let map = Value::Map(vec![(simple(), value)]);
            for fields in [list, map] {
                let read = entries(&Value::Array(vec![Value::Array(vec![text("7-1"), fields])]));
                assert_eq!(read[0].data, data.as_bytes());
            }
        }
        let skipped = Value::Map(vec![
            (text("data"), Value::BigNumber(b"700".to_vec())),
            (Value::BigNumber(b"90".to_vec()), text("x")),
        ]);
        let read = entries(&Value::Array(vec![Value::Array(vec![text("7-1"), skipped])]));
        assert_eq!(read[0].skipped, 700);
    }
}
