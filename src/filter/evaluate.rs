//! Evaluates a filter on one message, within a budget of steps.
//!
//! Each operation and each element that is looked at is a step; what works through a text pays for
//! its length. So the time of an evaluation follows the steps, whatever filter and message are.

use std::cmp::Ordering;

use super::{
    json::{Beyond, FILTER_BODY_DEPTH_MAX, FILTER_BODY_VALUES_MAX, Map},
    tree::{Conversion, Each, Find, Kind, Node, Operator, Place, Question, Variable},
    value::{Text, Value, WHOLE_BEYOND},
};

/// Most steps of one evaluation.
pub const FILTER_STEPS_MAX: u32 = 100_000;
/// Bytes of a text that a step works through.
const STEP_BYTES: usize = 16;

/// What a filter may look at.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) event_type: &'a str,
    pub(super) channel: &'a str,
    pub(super) key: &'a str,
    pub(super) id: &'a str,
    pub(super) accepted_at: &'a str,
    pub(super) headers: &'a Map<'a>,
    pub(super) body: Result<Value<'a>, Beyond>,
}

/// Why an evaluation came to nothing, and where.
#[derive(Debug, Clone)]
pub(super) struct Failure<'a> {
    pub(super) place: Place,
    pub(super) why: Why<'a>,
}

/// Why an evaluation came to nothing. Types and names of the filter alone: nothing of a message's
/// content. Plain values, for a failure that `||` overrules must cost no more than another step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why<'a> {
    NoField(&'a str),
    NoElement,
    Unfit(&'static str, &'static str),
    UnfitPair(&'static str, &'static str, &'static str),
    NotBool(&'static str),
    NoNumber(&'static str),
    Overflow(&'static str),
    DivisionByZero,
    Beyond(Beyond),
    /// The budget is spent; nothing overrules this.
    Spent,
}

impl std::fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoField(name) => {
                write!(f, "there is no field {name:?}; ask has() before it")
            }
            Self::NoElement => f.write_str("there is nothing under this index; ask with in before"),
            Self::Unfit(what, found) => write!(f, "{what} cannot work on {found}"),
            Self::UnfitPair(what, left, right) => {
                write!(f, "{what} cannot work on {left} and {right}")
            }
            Self::NotBool(found) => write!(f, "true or false is needed, and this is {found}"),
            Self::NoNumber(what) => write!(f, "{what} cannot read this as a number"),
            Self::Overflow(what) => write!(f, "{what} comes to a number that does not fit"),
            Self::DivisionByZero => f.write_str("a division by zero"),
            Self::Beyond(Beyond::Values) => write!(
                f,
                "the content holds more than {FILTER_BODY_VALUES_MAX} values, which no filter reads"
            ),
            Self::Beyond(Beyond::Depth) => write!(
                f,
                "the content is nested deeper than {FILTER_BODY_DEPTH_MAX}, which no filter reads"
            ),
            Self::Spent => write!(f, "it takes more than {FILTER_STEPS_MAX} steps"),
        }
    }
}

pub(super) type Come<'a, T = Value<'a>> = Result<T, Failure<'a>>;

/// One evaluation.
#[derive(Debug)]
pub(super) struct Evaluation<'a> {
    facts: &'a Facts<'a>,
    /// What macros have bound, the innermost last.
    locals: Vec<Value<'a>>,
    steps_left: u32,
}

impl<'a> Evaluation<'a> {
    pub(super) const fn of(facts: &'a Facts<'a>) -> Self {
        Self {
            facts,
            locals: Vec::new(),
            steps_left: FILTER_STEPS_MAX,
        }
    }

    /// Whether the condition holds.
    pub(super) fn holds(&mut self, node: &'a Node) -> Come<'a, bool> {
        match self.value(node)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(failure(node.place, Why::NotBool(other.type_name()))),
        }
    }

    /// Steps taken so far.
    #[cfg(test)]
    pub(super) const fn steps(&self) -> u32 {
        FILTER_STEPS_MAX - self.steps_left
    }

    fn pay(&mut self, place: Place, steps: usize) -> Come<'a, ()> {
        let left = u32::try_from(steps).ok();
        let left = left.and_then(|steps| self.steps_left.checked_sub(steps));
        self.steps_left = left.unwrap_or(0);
        match left {
            Some(_) => Ok(()),
            None => Err(failure(place, Why::Spent)),
        }
    }

    fn pay_bytes(&mut self, place: Place, bytes: usize) -> Come<'a, ()> {
        self.pay(place, bytes / STEP_BYTES)
    }

    fn value(&mut self, node: &'a Node) -> Come<'a> {
        let place = node.place;
        self.pay(place, 1)?;
        match &node.kind {
            Kind::Null => Ok(Value::Null),
            Kind::Bool(value) => Ok(Value::Bool(*value)),
            Kind::Int(value) => Ok(Value::Int(*value)),
            Kind::Double(value) => Ok(Value::Double(*value)),
            Kind::Text(text) => Ok(Value::found(text)),
            Kind::List(elements) => {
                let values = elements.iter().map(|element| self.value(element));
                Ok(Value::list(values.collect::<Result<_, _>>()?))
            }
            Kind::Variable(variable) => self.variable(*variable, place),
            Kind::Local(local) => Ok(self.locals[*local].clone()),
            Kind::Field(of, name) => self.field(of, name, place),
            Kind::Has(of, name) => self.has(of, name, place),
            Kind::Index(parts) => self.index(parts, place),
            Kind::Not(of) => self.holds(of).map(|holds| Value::Bool(!holds)),
            Kind::Negate(of) => self.negate(of, place),
            Kind::And(parts) => self.joined(parts, false),
            Kind::Or(parts) => self.joined(parts, true),
            Kind::If(parts) => {
                let [condition, then, otherwise] = &**parts;
                let holds = self.holds(condition)?;
                self.value(if holds { then } else { otherwise })
            }
            Kind::Binary(operator, sides) => self.binary(*operator, sides, place),
            Kind::Convert(conversion, of) => self.convert(*conversion, of, place),
            Kind::Find(find, parts) => self.find(*find, parts, place),
            Kind::Matches(of, pattern) => {
                let of = self.text(of, "matches()")?;
                self.pay(place, pattern.steps(of.as_str().len()))?;
                Ok(Value::Bool(pattern.is_in(of.as_str())))
            }
            Kind::Each(each) => self.each(each, place),
        }
    }

    fn variable(&self, variable: Variable, place: Place) -> Come<'a> {
        let facts = self.facts;
        Ok(Value::found(match variable {
            Variable::Type => facts.event_type,
            Variable::Channel => facts.channel,
            Variable::Key => facts.key,
            Variable::Id => facts.id,
            Variable::AcceptedAt => facts.accepted_at,
            Variable::Headers => return Ok(Value::Map(facts.headers)),
            Variable::Body => {
                let body = facts.body.clone();
                return body.map_err(|beyond| failure(place, Why::Beyond(beyond)));
            }
        }))
    }

    fn field(&mut self, of: &'a Node, name: &'a str, place: Place) -> Come<'a> {
        match self.value(of)? {
            Value::Map(map) => {
                self.pay_bytes(place, name.len())?;
                let found = map.get(name).map(Value::of);
                found.ok_or_else(|| failure(place, Why::NoField(name)))
            }
            other => Err(failure(place, Why::Unfit("a field", other.type_name()))),
        }
    }

    fn has(&mut self, of: &'a Node, name: &'a str, place: Place) -> Come<'a> {
        match self.value(of)? {
            Value::Map(map) => {
                self.pay_bytes(place, name.len())?;
                Ok(Value::Bool(map.contains_key(name)))
            }
            other => Err(failure(place, Why::Unfit("has()", other.type_name()))),
        }
    }

    fn index(&mut self, parts: &'a [Node; 2], place: Place) -> Come<'a> {
        let (of, at) = (self.value(&parts[0])?, self.value(&parts[1])?);
        let found = match (&of, &at) {
            (Value::Map(map), Value::Text(name)) => {
                self.pay_bytes(place, name.as_str().len())?;
                map.get(name.as_str()).map(Value::of)
            }
            (Value::List(list), Value::Int(index)) => {
                usize::try_from(*index).ok().and_then(|at| list.get(at))
            }
            _ => {
                let why = Why::UnfitPair("an index", of.type_name(), at.type_name());
                return Err(failure(place, why));
            }
        };
        found.ok_or_else(|| failure(place, Why::NoElement))
    }

    fn negate(&mut self, of: &'a Node, place: Place) -> Come<'a> {
        match self.value(of)? {
            Value::Int(value) => match value.checked_neg() {
                Some(value) => Ok(Value::Int(value)),
                None => Err(failure(place, Why::Overflow("-"))),
            },
            Value::Double(value) => Ok(Value::Double(-value)),
            other => Err(failure(place, Why::Unfit("-", other.type_name()))),
        }
    }

    /// `&&` or `||`: a part that decides overrules the failure of another, on either side.
    fn joined(&mut self, parts: &'a [Node], decides: bool) -> Come<'a> {
        let mut failed = None;
        for part in parts {
            let held = self.holds(part);
            if overruling(held, decides, &mut failed)? {
                return Ok(Value::Bool(decides));
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn binary(&mut self, operator: Operator, sides: &'a [Node; 2], place: Place) -> Come<'a> {
        let (left, right) = (self.value(&sides[0])?, self.value(&sides[1])?);
        match operator {
            Operator::Equal => self.equal(&left, &right, place).map(Value::Bool),
            Operator::NotEqual => Ok(Value::Bool(!self.equal(&left, &right, place)?)),
            Operator::In => self.is_in(&left, &right, place).map(Value::Bool),
            Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual => self.ordered(operator, &left, &right, place),
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => self.calculate(operator, &left, &right, place),
        }
    }

    /// Values of different types are not equal, but for numbers.
    fn equal(&mut self, left: &Value<'a>, right: &Value<'a>, place: Place) -> Come<'a, bool> {
        match (left, right) {
            (Value::Text(left), Value::Text(right)) => {
                let (left, right) = (left.as_str(), right.as_str());
                if left.len() != right.len() {
                    return Ok(false);
                }
                self.pay_bytes(place, left.len())?;
                Ok(left == right)
            }
            (Value::Null, Value::Null) => Ok(true),
            (Value::List(left), Value::List(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (left, right) in left.iter().zip(right.iter()) {
                    self.pay(place, 1)?;
                    if !self.equal(&left, &right, place)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Map(left), Value::Map(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for ((name, left), (other, right)) in left.iter().zip(right.iter()) {
                    self.pay(place, 1 + name.len() / STEP_BYTES)?;
                    if name != other || !self.equal(&Value::of(left), &Value::of(right), place)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(left.order(right) == Ok(Some(Ordering::Equal))),
        }
    }

    fn is_in(&mut self, value: &Value<'a>, of: &Value<'a>, place: Place) -> Come<'a, bool> {
        match (value, of) {
            (_, Value::List(list)) => {
                for element in list.iter() {
                    self.pay(place, 1)?;
                    if self.equal(value, &element, place)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Text(name), Value::Map(map)) => {
                self.pay_bytes(place, name.as_str().len())?;
                Ok(map.contains_key(name.as_str()))
            }
            (_, Value::Map(_)) => Ok(false),
            _ => {
                let why = Why::UnfitPair("in", value.type_name(), of.type_name());
                Err(failure(place, why))
            }
        }
    }

    fn ordered(
        &mut self,
        operator: Operator,
        left: &Value<'a>,
        right: &Value<'a>,
        place: Place,
    ) -> Come<'a> {
        if let (Value::Text(left), Value::Text(right)) = (left, right) {
            self.pay_bytes(place, left.as_str().len().min(right.as_str().len()))?;
        }
        let unfit = || {
            let (left, right) = (left.type_name(), right.type_name());
            failure(place, Why::UnfitPair(operator.as_str(), left, right))
        };
        let order = left.order(right).map_err(|()| unfit())?;
        Ok(Value::Bool(order.is_some_and(|order| match operator {
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            _ => order.is_ge(),
        })))
    }

    fn calculate(
        &mut self,
        operator: Operator,
        left: &Value<'a>,
        right: &Value<'a>,
        place: Place,
    ) -> Come<'a> {
        match (operator, left, right) {
            (_, Value::Int(left), Value::Int(right)) => {
                let why = whole(operator, *left, *right);
                why.map(Value::Int).map_err(|why| failure(place, why))
            }
            (Operator::Add, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
            (Operator::Subtract, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
            (Operator::Multiply, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
            (Operator::Divide, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
            (Operator::Add, Value::Text(left), Value::Text(right)) => {
                let (left, right) = (left.as_str(), right.as_str());
                self.pay_bytes(place, left.len() + right.len())?;
                Ok(Value::made([left, right].concat()))
            }
            (Operator::Add, Value::List(left), Value::List(right)) => {
                self.pay(place, left.len() + right.len())?;
                Ok(Value::list(left.iter().chain(right.iter()).collect()))
            }
            _ => {
                let (left, right) = (left.type_name(), right.type_name());
                let why = Why::UnfitPair(operator.as_str(), left, right);
                Err(failure(place, why))
            }
        }
    }

    fn text(&mut self, node: &'a Node, what: &'static str) -> Come<'a, Text<'a>> {
        match self.value(node)? {
            Value::Text(text) => Ok(text),
            other => Err(failure(node.place, Why::Unfit(what, other.type_name()))),
        }
    }

    fn find(&mut self, find: Find, parts: &'a [Node; 2], place: Place) -> Come<'a> {
        let of = self.text(&parts[0], find.as_str())?;
        let part = self.text(&parts[1], find.as_str())?;
        let (of, part) = (of.as_str(), part.as_str());
        let worked_through = match find {
            Find::Contains => of.len() + part.len(),
            Find::StartsWith | Find::EndsWith => of.len().min(part.len()),
        };
        self.pay_bytes(place, worked_through)?;
        Ok(Value::Bool(match find {
            Find::Contains => of.contains(part),
            Find::StartsWith => of.starts_with(part),
            Find::EndsWith => of.ends_with(part),
        }))
    }

    fn convert(&mut self, conversion: Conversion, of: &'a Node, place: Place) -> Come<'a> {
        let of = self.value(of)?;
        if let Value::Text(text) = &of {
            self.pay_bytes(place, text.as_str().len())?;
        }
        let what = conversion.as_str();
        let no_number = || failure(place, Why::NoNumber(what));
        match (conversion, of) {
            (Conversion::Size, of) => {
                let size = match &of {
                    Value::Text(text) => text.as_str().chars().count(),
                    Value::List(list) => list.len(),
                    Value::Map(map) => map.len(),
                    other => return Err(failure(place, Why::Unfit(what, other.type_name()))),
                };
                Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
            }
            (Conversion::Int, Value::Text(text)) => {
                let number = text.as_str().parse();
                number.map(Value::Int).map_err(|_| no_number())
            }
            (Conversion::Int, Value::Double(number)) => {
                let number = cut(number).ok_or_else(|| failure(place, Why::Overflow(what)))?;
                Ok(Value::Int(number))
            }
            (Conversion::Double, Value::Text(text)) => {
                let number = text.as_str().parse();
                number.map(Value::Double).map_err(|_| no_number())
            }
            (Conversion::Double, Value::Int(number)) => Ok(Value::Double(number as f64)),
            (Conversion::Text, Value::Int(number)) => Ok(Value::made(number.to_string())),
            (Conversion::Text, Value::Double(number)) => Ok(Value::made(number.to_string())),
            (Conversion::Text, Value::Bool(value)) => Ok(Value::made(value.to_string())),
            (Conversion::Int, of @ Value::Int(_))
            | (Conversion::Double, of @ Value::Double(_))
            | (Conversion::Text, of @ Value::Text(_)) => Ok(of),
            (_, other) => Err(failure(place, Why::Unfit(what, other.type_name()))),
        }
    }

    fn each(&mut self, each: &'a Each, place: Place) -> Come<'a> {
        match self.value(&each.of)? {
            Value::List(list) => self.ask_each(&each.question, list.iter(), place),
            Value::Map(map) => {
                let names = map.keys().map(|name| Value::found(name));
                self.ask_each(&each.question, names, place)
            }
            other => Err(failure(place, Why::Unfit("a macro", other.type_name()))),
        }
    }

    fn ask_each(
        &mut self,
        question: &'a Question,
        elements: impl Iterator<Item = Value<'a>>,
        place: Place,
    ) -> Come<'a> {
        match question {
            Question::All(asked) => self.any(asked, elements, false, place),
            Question::Exists(asked) => self.any(asked, elements, true, place),
            Question::ExistsOne(asked) => {
                let mut count = 0_u32;
                for element in elements {
                    count += u32::from(self.bound(element, place, |e| e.holds(asked))?);
                }
                Ok(Value::Bool(count == 1))
            }
            Question::Filter(asked) => {
                let mut kept = Vec::new();
                for element in elements {
                    let clone = element.clone();
                    if self.bound(clone, place, |e| e.holds(asked))? {
                        kept.push(element);
                    }
                }
                Ok(Value::list(kept))
            }
            Question::Map { only, to } => {
                let mut made = Vec::new();
                for element in elements {
                    let value = self.bound(element, place, |e| match only {
                        Some(only) if !e.holds(only)? => Ok(None),
                        _ => e.value(to).map(Some),
                    })?;
                    made.extend(value);
                }
                Ok(Value::list(made))
            }
        }
    }

    /// Whether the question comes to `decides` for any element.
    fn any(
        &mut self,
        asked: &'a Node,
        elements: impl Iterator<Item = Value<'a>>,
        decides: bool,
        place: Place,
    ) -> Come<'a> {
        let mut failed = None;
        for element in elements {
            let held = self.bound(element, place, |e| e.holds(asked));
            if overruling(held, decides, &mut failed)? {
                return Ok(Value::Bool(decides));
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    /// Asks something with one more name bound.
    fn bound<T>(
        &mut self,
        element: Value<'a>,
        place: Place,
        ask: impl FnOnce(&mut Self) -> Come<'a, T>,
    ) -> Come<'a, T> {
        self.pay(place, 1)?;
        self.locals.push(element);
        let answer = ask(self);
        self.locals.pop();
        answer
    }
}

/// Whether this part decides. A failure is kept, in case that none does; a spent budget ends all.
fn overruling<'a>(
    held: Come<'a, bool>,
    decides: bool,
    failed: &mut Option<Failure<'a>>,
) -> Come<'a, bool> {
    match held {
        Ok(holds) => Ok(holds == decides),
        Err(failure) if matches!(failure.why, Why::Spent) => Err(failure),
        Err(failure) => {
            failed.get_or_insert(failure);
            Ok(false)
        }
    }
}

const fn failure(place: Place, why: Why<'_>) -> Failure<'_> {
    Failure { place, why }
}

fn whole(operator: Operator, left: i64, right: i64) -> Result<i64, Why<'static>> {
    let divides = matches!(operator, Operator::Divide | Operator::Remainder);
    if divides && right == 0 {
        return Err(Why::DivisionByZero);
    }
    let result = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide => left.checked_div(right),
        _ => left.checked_rem(right),
    };
    result.ok_or(Why::Overflow(operator.as_str()))
}

/// The whole part, when it fits.
fn cut(number: f64) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is in range, and cut on purpose"
    )]
    (number > -WHOLE_BEYOND && number < WHOLE_BEYOND).then_some(number as i64)
}
