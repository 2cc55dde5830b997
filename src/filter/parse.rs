//! Reads a filter, and refuses what is too large, unknown, or no condition.

use super::{
    pattern::Pattern,
    token::{Token, Tokens},
    tree::{Conversion, Each, Find, Kind, Node, Operator, Place, Question, Variable},
};

/// Most operations of a filter.
pub const FILTER_NODES_MAX: usize = 500;
/// Most operations below each other, brackets included.
pub const FILTER_DEPTH_MAX: usize = 32;
/// Most macros inside each other: one that asks something of each pair.
pub const FILTER_MACROS_DEEP_MAX: usize = 2;
/// Names that CEL keeps for itself.
const RESERVED: [&str; 20] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "while",
];
const MACROS: [&str; 5] = ["all", "exists", "exists_one", "filter", "map"];

/// Why a filter is refused, and where.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) place: Place,
    pub(super) what: String,
}

impl Refused {
    pub(super) fn new(place: Place, what: impl Into<String>) -> Self {
        Self {
            place,
            what: what.into(),
        }
    }
}

type Read<T = Node> = Result<T, Refused>;

/// A filter that was read.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) root: Node,
    /// Whether it looks at the content.
    pub(super) of_body: bool,
    /// Whether it looks at headers.
    pub(super) of_headers: bool,
}

/// Reads a filter.
pub(super) fn parse(text: &str) -> Read<Program> {
    let mut tokens = Tokens::of(text);
    let (token, place) = tokens.next()?;
    let mut parser = Parser {
        tokens,
        token,
        place,
        nodes: 0,
        depth: 0,
        locals: Vec::new(),
        of_body: false,
        of_headers: false,
    };
    let root = parser.expression()?;
    if parser.token != Token::End {
        let what = format!("{} cannot follow what stands before it", parser.found());
        return Err(Refused::new(parser.place, what));
    }
    condition(&root)?;
    Ok(Program {
        root,
        of_body: parser.of_body,
        of_headers: parser.of_headers,
    })
}

/// Refuses what can never be true or false.
fn condition(node: &Node) -> Read<()> {
    if node.kind.may_be_bool() {
        return Ok(());
    }
    let what = "a condition is expected here, and this is never true or false; compare it";
    Err(Refused::new(node.place, what))
}

struct Parser<'t> {
    tokens: Tokens<'t>,
    token: Token<'t>,
    place: Place,
    nodes: usize,
    depth: usize,
    /// Names that macros bound, the innermost last.
    locals: Vec<&'t str>,
    of_body: bool,
    of_headers: bool,
}

impl<'t> Parser<'t> {
    fn advance(&mut self) -> Read<Token<'t>> {
        let (token, place) = self.tokens.next()?;
        self.place = place;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.token, Token::Sign(found) if found == sign)
    }

    fn eat(&mut self, sign: &str) -> Read<bool> {
        let found = self.is(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, sign: &str) -> Read<()> {
        if self.eat(sign)? {
            return Ok(());
        }
        let what = format!("expected {sign:?}, found {}", self.found());
        Err(Refused::new(self.place, what))
    }

    fn found(&self) -> String {
        match &self.token {
            Token::Name(name) => format!("{name:?}"),
            Token::Int(number) | Token::Double(number) => format!("the number {number}"),
            Token::Text(_) => "a text".to_owned(),
            Token::Sign(sign) => format!("{sign:?}"),
            Token::End => "the end".to_owned(),
        }
    }

    fn node(&mut self, place: Place, kind: Kind, below: usize) -> Read {
        self.nodes += 1;
        if self.nodes > FILTER_NODES_MAX {
            let what = format!("more than {FILTER_NODES_MAX} operations; make the filter shorter");
            return Err(Refused::new(place, what));
        }
        let depth = below + 1;
        if depth > FILTER_DEPTH_MAX {
            return Err(too_deep(place));
        }
        Ok(Node { kind, place, depth })
    }

    /// Goes one bracket or sign deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        self.depth += 1;
        if self.depth > FILTER_DEPTH_MAX {
            return Err(too_deep(self.place));
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn expression(&mut self) -> Read {
        self.deeper(|parser| {
            let condition_node = parser.chain("||", Self::conjunction, Kind::Or)?;
            let place = parser.place;
            if !parser.eat("?")? {
                return Ok(condition_node);
            }
            condition(&condition_node)?;
            let then = parser.chain("||", Self::conjunction, Kind::Or)?;
            parser.expect(":")?;
            let otherwise = parser.expression()?;
            let below = deepest([&condition_node, &then, &otherwise]);
            let parts = Box::new([condition_node, then, otherwise]);
            parser.node(place, Kind::If(parts), below)
        })
    }

    fn conjunction(&mut self) -> Read {
        self.chain("&&", Self::relation, Kind::And)
    }

    /// Parts joined by the same sign; one part stands for itself.
    fn chain(
        &mut self,
        sign: &str,
        part: fn(&mut Self) -> Read,
        kind: fn(Vec<Node>) -> Kind,
    ) -> Read {
        let first = part(self)?;
        let place = self.place;
        if !self.is(sign) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.eat(sign)? {
            parts.push(part(self)?);
        }
        parts.iter().try_for_each(condition)?;
        let below = deepest(&parts);
        self.node(place, kind(parts), below)
    }

    fn relation(&mut self) -> Read {
        let mut left = self.sum()?;
        loop {
            let operator = match &self.token {
                Token::Sign("==") => Operator::Equal,
                Token::Sign("!=") => Operator::NotEqual,
                Token::Sign("<") => Operator::Less,
                Token::Sign("<=") => Operator::LessOrEqual,
                Token::Sign(">") => Operator::Greater,
                Token::Sign(">=") => Operator::GreaterOrEqual,
                Token::Sign("=") => {
                    let what = "\"=\" does not exist; equality is written ==";
                    return Err(Refused::new(self.place, what));
                }
                Token::Name("in") => Operator::In,
                _ => return Ok(left),
            };
            left = self.binary(operator, left, Self::sum)?;
        }
    }

    fn sum(&mut self) -> Read {
        let mut left = self.product()?;
        loop {
            let operator = match &self.token {
                Token::Sign("+") => Operator::Add,
                Token::Sign("-") => Operator::Subtract,
                _ => return Ok(left),
            };
            left = self.binary(operator, left, Self::product)?;
        }
    }

    fn product(&mut self) -> Read {
        let mut left = self.unary()?;
        loop {
            let operator = match &self.token {
                Token::Sign("*") => Operator::Multiply,
                Token::Sign("/") => Operator::Divide,
                Token::Sign("%") => Operator::Remainder,
                _ => return Ok(left),
            };
            left = self.binary(operator, left, Self::unary)?;
        }
    }

    fn binary(&mut self, operator: Operator, left: Node, right: fn(&mut Self) -> Read) -> Read {
        let place = self.place;
        self.advance()?;
        let right = right(self)?;
        let below = deepest([&left, &right]);
        self.node(
            place,
            Kind::Binary(operator, Box::new([left, right])),
            below,
        )
    }

    fn unary(&mut self) -> Read {
        let place = self.place;
        if self.eat("!")? {
            let of = self.deeper(Self::unary)?;
            condition(&of)?;
            let below = of.depth;
            return self.node(place, Kind::Not(Box::new(of)), below);
        }
        if !self.eat("-")? {
            return self.member();
        }
        if matches!(self.token, Token::Int(_) | Token::Double(_)) {
            let number = self.number(true)?;
            return self.members(number);
        }
        let of = self.deeper(Self::unary)?;
        let below = of.depth;
        self.node(place, Kind::Negate(Box::new(of)), below)
    }

    fn member(&mut self) -> Read {
        let of = self.primary()?;
        self.members(of)
    }

    /// What follows a value: fields, calls and indexes.
    fn members(&mut self, mut of: Node) -> Read {
        loop {
            let place = self.place;
            if self.eat(".")? {
                let (name, at) = self.name()?;
                of = if self.eat("(")? {
                    self.call_on(of, name, at)?
                } else {
                    let below = of.depth;
                    self.node(at, Kind::Field(Box::new(of), name.into()), below)?
                };
            } else if self.eat("[")? {
                let at = self.expression()?;
                self.expect("]")?;
                let below = deepest([&of, &at]);
                of = self.node(place, Kind::Index(Box::new([of, at])), below)?;
            } else {
                return Ok(of);
            }
        }
    }

    fn name(&mut self) -> Read<(&'t str, Place)> {
        let place = self.place;
        match self.advance()? {
            Token::Name(name) => Ok((name, place)),
            _ => Err(Refused::new(
                place,
                "a name is expected here, like body.amount",
            )),
        }
    }

    fn primary(&mut self) -> Read {
        let place = self.place;
        match &self.token {
            Token::Int(_) | Token::Double(_) => self.number(false),
            Token::Name(_) => self.named(),
            Token::Sign("{") => {
                let what = "maps cannot be written in a filter; compare field by field";
                Err(Refused::new(place, what))
            }
            Token::Text(_) | Token::Sign("(" | "[") => match self.advance()? {
                Token::Text(text) => self.node(place, Kind::Text(text.into()), 0),
                Token::Sign("(") => {
                    let inner = self.expression()?;
                    self.expect(")")?;
                    Ok(inner)
                }
                _ => {
                    let elements = self.list("]")?;
                    let below = deepest(&elements);
                    self.node(place, Kind::List(elements), below)
                }
            },
            _ => {
                let what = format!("a value is expected here, found {}", self.found());
                Err(Refused::new(place, what))
            }
        }
    }

    /// Values up to a closing bracket, which is taken.
    fn list(&mut self, close: &str) -> Read<Vec<Node>> {
        let mut values = Vec::new();
        while !self.eat(close)? {
            values.push(self.expression()?);
            if !self.eat(",")? {
                self.expect(close)?;
                break;
            }
        }
        Ok(values)
    }

    fn number(&mut self, negative: bool) -> Read {
        let place = self.place;
        let sign = if negative { "-" } else { "" };
        let kind = match self.advance()? {
            Token::Int(digits) => {
                let hexadecimal = digits.get(..2).filter(|p| p.eq_ignore_ascii_case("0x"));
                let (digits, radix) = match hexadecimal {
                    Some(_) => (&digits[2..], 16),
                    None => (digits, 10),
                };
                let number = i64::from_str_radix(&format!("{sign}{digits}"), radix);
                number.map(Kind::Int).ok()
            }
            Token::Double(digits) => {
                let number = format!("{sign}{digits}").parse::<f64>();
                number.ok().filter(|n| n.is_finite()).map(Kind::Double)
            }
            _ => None,
        };
        let what = "a number that does not fit; whole numbers have 64 bits";
        let kind = kind.ok_or_else(|| Refused::new(place, what))?;
        self.node(place, kind, 0)
    }

    /// A variable, a literal word or a call.
    fn named(&mut self) -> Read {
        let (name, place) = self.name()?;
        if self.eat("(")? {
            return self.call(name, place);
        }
        let kind = match name {
            "null" => Kind::Null,
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            _ => match self.locals.iter().rposition(|local| *local == name) {
                Some(local) => Kind::Local(local),
                None => Kind::Variable(self.variable(name, place)?),
            },
        };
        self.node(place, kind, 0)
    }

    fn variable(&mut self, name: &str, place: Place) -> Read<Variable> {
        let variable = Variable::named(name).ok_or_else(|| {
            let known = Variable::ALL.map(|(known, _)| known).join(", ");
            let what = format!("there is no {name:?}; a filter knows {known}");
            Refused::new(place, what)
        })?;
        self.of_body |= variable == Variable::Body;
        self.of_headers |= variable == Variable::Headers;
        Ok(variable)
    }

    /// A call of a function by its name alone.
    fn call(&mut self, name: &str, place: Place) -> Read {
        let mut arguments = self.list(")")?;
        let (count, argument) = (arguments.len(), arguments.pop());
        let argument = argument.filter(|_| count == 1);
        match (name, Conversion::named(name), argument) {
            (
                "has",
                _,
                Some(Node {
                    kind: Kind::Field(of, field),
                    depth,
                    ..
                }),
            ) => self.node(place, Kind::Has(of, field), depth - 1),
            ("has", ..) => {
                let what = "has() takes one field, like has(body.amount)";
                Err(Refused::new(place, what))
            }
            (_, Some(conversion), Some(of)) => {
                let below = of.depth;
                self.node(place, Kind::Convert(conversion, Box::new(of)), below)
            }
            (_, Some(_), None) => Err(Refused::new(place, format!("{name}() takes one value"))),
            _ => Err(unknown_function(name, place)),
        }
    }

    /// A call of a function on a value.
    fn call_on(&mut self, of: Node, name: &'t str, place: Place) -> Read {
        if MACROS.contains(&name) {
            return self.each(of, name, place);
        }
        let mut arguments = self.list(")")?;
        if name == "size" && arguments.is_empty() {
            let below = of.depth;
            return self.node(place, Kind::Convert(Conversion::Size, Box::new(of)), below);
        }
        let (count, argument) = (arguments.len(), arguments.pop());
        let argument = argument.filter(|_| count == 1);
        match (name, Find::named(name), argument) {
            (
                "matches",
                _,
                Some(Node {
                    kind: Kind::Text(pattern),
                    place: at,
                    ..
                }),
            ) => {
                let pattern = Pattern::read(&pattern).map_err(|what| Refused::new(at, what))?;
                let below = of.depth;
                self.node(place, Kind::Matches(Box::new(of), pattern), below)
            }
            ("matches", ..) => {
                let what = "matches() takes one pattern, written out as a text";
                Err(Refused::new(place, what))
            }
            (_, Some(find), Some(part)) => {
                let below = deepest([&of, &part]);
                self.node(place, Kind::Find(find, Box::new([of, part])), below)
            }
            (_, Some(_), None) => Err(Refused::new(place, format!("{name}() takes one text"))),
            ("size", ..) => Err(Refused::new(place, "size() takes nothing more")),
            _ => Err(unknown_function(name, place)),
        }
    }

    /// A macro: a name for the element, then one or two questions.
    fn each(&mut self, of: Node, name: &'t str, place: Place) -> Read {
        let (local, at) = self.name()?;
        if RESERVED.contains(&local) {
            let what = format!("{local:?} is a word of the language; name the element otherwise");
            return Err(Refused::new(at, what));
        }
        self.expect(",")?;
        if self.locals.len() >= FILTER_MACROS_DEEP_MAX {
            let what = format!("more than {FILTER_MACROS_DEEP_MAX} macros inside each other");
            return Err(Refused::new(place, what));
        }
        self.locals.push(local);
        let mut questions = self.list(")")?;
        self.locals.pop();
        let below = deepest(questions.iter().chain([&of]));
        let question = match (name, questions.pop(), questions.pop(), questions.pop()) {
            ("map", Some(to), only, None) => Question::Map { only, to },
            ("all", Some(question), None, None) => Question::All(question),
            ("exists", Some(question), None, None) => Question::Exists(question),
            ("exists_one", Some(question), None, None) => Question::ExistsOne(question),
            ("filter", Some(question), None, None) => Question::Filter(question),
            _ => {
                let what = format!("{name}() takes a name and a question, like {name}(x, x > 1)");
                return Err(Refused::new(place, what));
            }
        };
        match &question {
            Question::All(asked)
            | Question::Exists(asked)
            | Question::ExistsOne(asked)
            | Question::Filter(asked)
            | Question::Map {
                only: Some(asked), ..
            } => condition(asked)?,
            Question::Map { only: None, .. } => {}
        }
        let each = Each { of, question };
        self.node(place, Kind::Each(Box::new(each)), below)
    }
}

fn too_deep(place: Place) -> Refused {
    let what = format!("more than {FILTER_DEPTH_MAX} operations inside each other");
    Refused::new(place, what)
}

fn unknown_function(name: &str, place: Place) -> Refused {
    let what = format!(
        "there is no function {name}(); a filter knows has, size, int, double and string, and on \
         a value contains, startsWith, endsWith, matches, size, all, exists, exists_one, filter \
         and map"
    );
    Refused::new(place, what)
}

fn deepest<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> usize {
    nodes.into_iter().map(|node| node.depth).max().unwrap_or(0)
}
