//! A filter that was read: what it asks, node by node.

use super::pattern::Pattern;

/// A place in the text of a filter, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(pub(super) usize);

/// One operation, and where it was written.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) place: Place,
    /// How many nodes stand below each other here, this one included.
    pub(super) depth: usize,
}

/// What a node asks.
#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
    List(Vec<Node>),
    Variable(Variable),
    /// A name that a macro bound, counted from the outermost.
    Local(usize),
    /// `of.name`
    Field(Box<Node>, Box<str>),
    /// `has(of.name)`
    Has(Box<Node>, Box<str>),
    /// `of[at]`
    Index(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// At least two, joined by `&&`.
    And(Vec<Node>),
    /// At least two, joined by `||`.
    Or(Vec<Node>),
    /// `condition ? then : otherwise`
    If(Box<[Node; 3]>),
    Binary(Operator, Box<[Node; 2]>),
    /// A function of one value.
    Convert(Conversion, Box<Node>),
    /// A test of one text by another.
    Find(Find, Box<[Node; 2]>),
    /// `of.matches(pattern)`
    Matches(Box<Node>, Pattern),
    Each(Box<Each>),
}

/// What is known of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Type,
    Headers,
    Body,
    Channel,
    Key,
    Id,
    AcceptedAt,
}

impl Variable {
    pub(super) const ALL: [(&str, Self); 7] = [
        ("type", Self::Type),
        ("headers", Self::Headers),
        ("body", Self::Body),
        ("channel", Self::Channel),
        ("key", Self::Key),
        ("id", Self::Id),
        ("acceptedAt", Self::AcceptedAt),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, variable)| variable)
    }
}

/// An operator between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    Size,
    Int,
    Double,
    Text,
}

impl Conversion {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "size" => Self::Size,
            "int" => Self::Int,
            "double" => Self::Double,
            "string" => Self::Text,
            _ => return None,
        })
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size()",
            Self::Int => "int()",
            Self::Double => "double()",
            Self::Text => "string()",
        }
    }
}

/// A test of one text by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Find {
    Contains,
    StartsWith,
    EndsWith,
}

impl Find {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "contains" => Self::Contains,
            "startsWith" => Self::StartsWith,
            "endsWith" => Self::EndsWith,
            _ => return None,
        })
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "contains()",
            Self::StartsWith => "startsWith()",
            Self::EndsWith => "endsWith()",
        }
    }
}

/// A macro: something asked of each element of a list, or of each key of a map.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) of: Node,
    pub(super) question: Question,
}

/// What is asked of each element. Its name is the innermost local of these nodes.
#[derive(Debug)]
pub(super) enum Question {
    All(Node),
    Exists(Node),
    ExistsOne(Node),
    Filter(Node),
    Map { only: Option<Node>, to: Node },
}

impl Kind {
    /// Whether it can come to true or false, as far as can be told without a message.
    pub(super) fn may_be_bool(&self) -> bool {
        match self {
            Self::Bool(_)
            | Self::Local(_)
            | Self::Field(..)
            | Self::Has(..)
            | Self::Index(_)
            | Self::Not(_)
            | Self::And(_)
            | Self::Or(_)
            | Self::Find(..)
            | Self::Matches(..) => true,
            Self::Variable(variable) => *variable == Variable::Body,
            Self::If(parts) => parts[1].kind.may_be_bool() || parts[2].kind.may_be_bool(),
            Self::Binary(operator, _) => !matches!(
                operator,
                Operator::Add
                    | Operator::Subtract
                    | Operator::Multiply
                    | Operator::Divide
                    | Operator::Remainder
            ),
            Self::Each(each) => {
                !matches!(each.question, Question::Filter(_) | Question::Map { .. })
            }
            Self::Null
            | Self::Int(_)
            | Self::Double(_)
            | Self::Text(_)
            | Self::List(_)
            | Self::Negate(_)
            | Self::Convert(..) => false,
        }
    }
}
