"""A Jinja environment for templates of strangers: no way to Python, bounds on work and size.

Loaded only when a template is rendered: it imports jinja2.
"""

from typing import Any

from jinja2 import Undefined, nodes, pass_context
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from jitllm.llm.tokenizer.template_limits import (
    MAX_CHARS,
    Budget,
    check_binop,
    check_call,
    check_items,
    check_size,
    guard_filters,
)


class Absent(Undefined):
    """What was not given: neither defined nor anything but none, and empty in a loop.

    Some templates loop over `tools` that are not there, others ask whether they are none.
    """

    __slots__ = ()
    __hash__ = Undefined.__hash__

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Undefined)


class GenerationExtension(Extension):
    """`{% generation %}`, which marks what the model wrote, prints its inside."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Give back the nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class GuardedEnvironment(SandboxedEnvironment):
    """Jinja's sandbox with bounds; mutable lists, as templates for tools append to them."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # folding constants would work outside the bounds
            extensions=[LoopControlExtension, GenerationExtension],
            finalize=self.count_output,
        )
        del self.globals["lipsum"]
        self.tests["none"] = _is_none
        self.budget = Budget()
        guard_filters(self.filters)

    def start(self) -> None:
        """Begin a rendering with a full budget."""
        self.budget = Budget()

    def given(self, name: str, value: Any) -> Any:
        """The value, or `Absent` for nothing."""
        return Absent(name=name) if value is None else value

    def step(self, chars: int = 0) -> str:
        """Called from loops and macros; see `Budget.step`."""
        self.budget.step(chars)
        return ""

    @pass_context  # otherwise constants would be printed at compile time, without counting
    def count_output(self, context: Context, value: Any) -> str:
        """Count what is printed."""
        text = str(self.small(value))
        self.budget.step(len(text))
        return text

    def small(self, value: Any) -> Any:
        """The value, which must not be a list of lists of lists without end.

        Printing or comparing one takes time that doubles with each level of the same two lists.
        """
        check_items(value)
        return value

    def join_text(self, *parts: Any) -> str:
        """The operator `~`."""
        texts = [str(self.small(part)) for part in parts]
        check_size(sum(map(len, texts)), MAX_CHARS)
        return "".join(texts)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        counted: nodes.Template = _CountWork().visit(tree)
        return counted

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method after a look at what it would make."""
        self.budget.step()
        check_call(obj, args, kwargs)
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute a binary operation after a look at the size of its result."""
        self.budget.step()
        check_binop(operator, left, right)
        return super().call_binop(context, operator, left, right)


class _CountWork(NodeTransformer):
    """Adds a step to loops, macros and printed text, and bounds `~` and comparisons."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self._count(node)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        self._count(node)
        return node

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:
        self._count(node)
        return node

    def visit_Output(self, node: nodes.Output) -> list[nodes.Node]:
        self.generic_visit(node)
        chars = sum(len(n.data) for n in node.nodes if isinstance(n, nodes.TemplateData))
        return [_step(chars, node.lineno), node] if chars else [node]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:
        self.generic_visit(node)
        return _call("join_text", node.nodes, node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _small(node.expr)
        for operand in node.ops:
            operand.expr = _small(operand.expr)
        return node

    def _count(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> None:
        self.generic_visit(node)
        node.body.insert(0, _step(0, node.lineno))


def _step(chars: int, lineno: int) -> nodes.ExprStmt:
    call = _call("step", [nodes.Const(chars, lineno=lineno)], lineno)
    return nodes.ExprStmt(call, lineno=lineno)


def _small(expr: nodes.Expr) -> nodes.Expr:
    return expr if isinstance(expr, nodes.Const) else _call("small", [expr], expr.lineno)


def _call(method: str, args: list[Any], lineno: int) -> nodes.Call:
    function = nodes.EnvironmentAttribute(method, lineno=lineno)
    return nodes.Call(function, args, [], None, None, lineno=lineno)


def _is_none(value: Any) -> bool:
    return value is None or isinstance(value, Absent)
