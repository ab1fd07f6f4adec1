//! PostgreSQL's analysed tree, read from its text form: `{NODE :field value ...}`.

use std::iter::Peekable;
use std::str::Chars;

/// A part of the tree. Two are equal if they mean the same, wherever in the text they stand.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A node with its fields, and where in the command's text it stands, if PostgreSQL tells.
    Object {
        /// Its name, as `OPEXPR`.
        kind: String,
        /// Its fields by name.
        fields: Vec<(String, Node)>,
        /// Offset in bytes.
        place: Option<usize>,
    },
    /// A list.
    List(Vec<Node>),
    /// A word or a number.
    Atom(String),
    /// The bytes of a constant, in the server's order.
    Bytes(Vec<u8>),
    /// Nothing: `<>`.
    None,
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        match (self, other) {
            (
                Node::Object { kind, fields, .. },
                Node::Object { kind: other_kind, fields: others, .. },
            ) => kind == other_kind && fields == others,
            (Node::List(items), Node::List(others)) => items == others,
            (Node::Atom(word), Node::Atom(other)) => word == other,
            (Node::Bytes(bytes), Node::Bytes(others)) => bytes == others,
            (Node::None, Node::None) => true,
            _ => false,
        }
    }
}

static NONE: Node = Node::None;

impl Node {
    /// The name of a node; empty for anything else.
    pub(super) fn kind(&self) -> &str {
        if let Node::Object { kind, .. } = self { kind } else { "" }
    }

    /// Where in the command's text it stands, if PostgreSQL tells.
    pub(super) fn place(&self) -> Option<usize> {
        if let Node::Object { place, .. } = self { *place } else { None }
    }

    /// A field; nothing if there is none of that name.
    pub(super) fn get(&self, name: &str) -> &Node {
        let Node::Object { fields, .. } = self else { return &NONE };
        fields.iter().find(|(field, _)| field == name).map_or(&NONE, |(_, value)| value)
    }

    /// A field that is a number; 0 if it is none.
    pub(super) fn int(&self, name: &str) -> i64 {
        self.get(name).number()
    }

    /// A field that is an object id; 0 if it is none.
    pub(super) fn oid(&self, name: &str) -> u32 {
        self.get(name).text().parse().unwrap_or(0)
    }

    /// Whether a field is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).text() == "true"
    }

    /// The number that it is; 0 if it is none.
    pub(super) fn number(&self) -> i64 {
        self.text().parse().unwrap_or(0)
    }

    /// The word that it is; empty if it is none.
    pub(super) fn text(&self) -> &str {
        if let Node::Atom(word) = self { word } else { "" }
    }

    /// The items of a list; none if it is none.
    pub(super) fn list(&self) -> &[Node] {
        if let Node::List(items) = self { items } else { &[] }
    }

    /// Whether it is nothing.
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Node::None)
    }

    /// The nodes directly below it.
    pub(super) fn children(&self) -> Vec<&Node> {
        match self {
            Node::Object { fields, .. } => fields.iter().map(|(_, value)| value).collect(),
            Node::List(items) => items.iter().collect(),
            _ => vec![],
        }
    }
}

/// Why a text is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The text ends before the tree does.
    Ends,
    /// Something else stands where this was expected.
    Unexpected,
    /// More than this reader takes.
    TooDeep,
}

/// How deep a tree may be: so that nothing that follows it runs out of stack.
const DEPTH: usize = 200;

/// Fields that say how something was written, and not what it means.
const SPELLING: [&str; 6] =
    ["varnosyn", "varattnosyn", "funcformat", "relabelformat", "coerceformat", "row_format"];

/// Reads a tree.
pub(super) fn parse(text: &str) -> Result<Node, Malformed> {
    let mut reader = Reader { text: text.chars().peekable() };
    let token = reader.token().ok_or(Malformed::Ends)?;
    let node = reader.node(token, DEPTH)?;
    if reader.token().is_some() { Err(Malformed::Unexpected) } else { Ok(node) }
}

struct Reader<'t> {
    text: Peekable<Chars<'t>>,
}

#[derive(Debug, PartialEq)]
enum Token {
    /// One of `(){}[]`.
    Sign(char),
    Nothing,
    Word(String),
}

impl Reader<'_> {
    fn token(&mut self) -> Option<Token> {
        while self.text.next_if(|next| next.is_whitespace()).is_some() {}
        let first = *self.text.peek()?;
        if "(){}[]".contains(first) {
            self.text.next();
            return Some(Token::Sign(first));
        }
        let mut word = String::new();
        let mut escaped = false;
        while let Some(next) =
            self.text.next_if(|next| !next.is_whitespace() && !"(){}[]".contains(*next))
        {
            if next == '\\' {
                escaped = true;
                word.extend(self.text.next());
            } else {
                word.push(next);
            }
        }
        if word == "<>" && !escaped {
            return Some(Token::Nothing);
        }
        // The strings of a list are quoted.
        if first == '"' && word.len() > 1 && word.ends_with('"') {
            word = word[1..word.len() - 1].into();
        }
        Some(Token::Word(word))
    }

    fn node(&mut self, token: Token, depth: usize) -> Result<Node, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::TooDeep)?;
        match token {
            Token::Nothing => Ok(Node::None),
            Token::Sign('{') => self.object(depth),
            Token::Sign('(') => {
                let mut items = Vec::new();
                loop {
                    match self.token().ok_or(Malformed::Ends)? {
                        Token::Sign(')') => return Ok(Node::List(items)),
                        token => items.push(self.node(token, depth)?),
                    }
                }
            }
            Token::Sign(_) => Err(Malformed::Unexpected),
            Token::Word(word) => {
                // A constant: its length, and its bytes in brackets.
                while self.text.next_if(|next| next.is_whitespace()).is_some() {}
                if self.text.next_if_eq(&'[').is_some() {
                    self.bytes()
                } else {
                    Ok(Node::Atom(word))
                }
            }
        }
    }

    fn bytes(&mut self) -> Result<Node, Malformed> {
        let mut bytes = Vec::new();
        loop {
            match self.token().ok_or(Malformed::Ends)? {
                Token::Sign(']') => return Ok(Node::Bytes(bytes)),
                // They are signed.
                Token::Word(byte) => {
                    bytes.push(byte.parse::<i16>().map_err(|_| Malformed::Unexpected)? as u8);
                }
                _ => return Err(Malformed::Unexpected),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node, Malformed> {
        let Token::Word(kind) = self.token().ok_or(Malformed::Ends)? else {
            return Err(Malformed::Unexpected);
        };
        let (mut fields, mut place) = (Vec::new(), None);
        let mut token = self.token().ok_or(Malformed::Ends)?;
        loop {
            let name = match token {
                Token::Sign('}') => return Ok(Node::Object { kind, fields, place }),
                Token::Word(name) if name.starts_with(':') => name[1..].to_string(),
                _ => return Err(Malformed::Unexpected),
            };
            token = self.token().ok_or(Malformed::Ends)?;
            // A field without a value, as an empty name.
            if matches!(&token, Token::Word(word) if word.starts_with(':')) {
                continue;
            }
            let value = self.node(token, depth)?;
            if name == "location" {
                place = value.text().parse().ok();
            } else if !SPELLING.contains(&name.as_str()) {
                fields.push((name, value));
            }
            token = self.token().ok_or(Malformed::Ends)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read() {
        let text =
            r#"({CONST :consttype 23 :constvalue 4 [ 1 -1 0 ] :location 17} "a\ b" <> (i 7))"#;
        let tree = parse(text).unwrap();
        let [constant, word, nothing, list] = tree.list() else { panic!("{tree:?}") };
        assert_eq!((constant.kind(), constant.place()), ("CONST", Some(17)));
        assert_eq!(constant.get("constvalue"), &Node::Bytes(vec![1, 255, 0]));
        assert_eq!((word.text(), constant.oid("consttype")), ("a b", 23));
        assert!(nothing.is_none());
        assert_eq!(list.list()[1].number(), 7);
        assert_eq!(parse("{A :x 1 :location 3}"), parse("{A :x 1 :location -1}"));
    }

    #[test]
    fn what_is_no_tree_is_an_error() {
        for text in
            ["", "(", "{", "{A", "{A :x", "{A :x 1", ")", "{A x}", "1 [ a ]", "(1) 2", "{(}"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        let deep = "(".repeat(100_000);
        assert_eq!(parse(&deep), Err(Malformed::TooDeep));
        let tree = "({QUERY :a (1 2) :b {C :d 4 [ 1 2 ]}} \"x\")";
        for end in 0..tree.len() {
            assert!(parse(&tree[..end]).is_err());
        }
    }
}
