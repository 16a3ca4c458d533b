"""A plugin for mypy: ``plugins = ["ray.mypy_plugin"]`` in its configuration.

mypy takes no notice of what a decorator makes of a class. With this plugin ``@ray.remote class Counter`` has ``remote``
and ``options``, which check the arguments of the constructor; the attributes of a handle are the methods of the class,
with ``remote``; and what is no method is an error.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.checker import TypeChecker
from mypy.errorcodes import ATTR_DEFINED
from mypy.nodes import MDEF, Decorator, FuncDef, OverloadedFuncDef, SymbolTableNode, TypeInfo, Var
from mypy.plugin import AttributeContext, ClassDefContext, Plugin
from mypy.types import AnyType, CallableType, Instance, Overloaded, Type, TypeOfAny, get_proper_type

_DECORATOR = "ray.api.decorator.remote"
_TYPED_ACTOR = "ray.api.typed_actor.Actor"
_CLASS = "ray.api.checked_class.CheckedClass"
_HANDLE = "ray.api.actors.ActorHandle"
_METHOD = "ray.api.actor_method.ActorMethod"
_OWN_METHODS = ("ray.api.actor_method.OwnMethod", "ray.api.actor_method.OwnAsyncMethod")
_FIXED = "ray.api.typed.FixedReturn"
_STREAM = "ray.runtime.refs.generator.ObjectRefGenerator"
_COROUTINE = "typing.Coroutine"
_ASYNC_ITERATORS = ("typing.AsyncIterator", "typing.AsyncGenerator", "typing.AsyncIterable")
#: Attributes of a decorated class that are not those of the class itself.
_OFFERED = ("remote", "options")
_KEY = "ray"


class RayPlugin(Plugin):
    """What mypy asks."""

    def get_class_decorator_hook_2(self, fullname: str) -> Callable[[ClassDefContext], bool] | None:
        return _mark if fullname == _DECORATOR else None

    def get_class_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        name = fullname.rpartition(".")[2]
        return (lambda context: self._offered(context, name)) if name in _OFFERED else None

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        owner, _, name = fullname.rpartition(".")
        return (lambda context: self._method(context, name)) if owner == _HANDLE else None

    def _offered(self, context: AttributeContext, name: str) -> Type:
        """``Counter.remote``: that of an actor class whose constructor is that of ``Counter``."""
        made = get_proper_type(context.type)
        if not isinstance(made, (CallableType, Overloaded)) or not made.is_type_obj():
            return context.default_attr_type
        if _KEY not in made.type_object().metadata:
            return context.default_attr_type
        return _member(context, name, self._instance(_CLASS, made))

    def _method(self, context: AttributeContext, name: str) -> Type:
        """``handle.name``."""
        handle = get_proper_type(context.type)
        actor = get_proper_type(handle.args[0]) if isinstance(handle, Instance) and handle.args else None
        if not isinstance(actor, Instance) or name.startswith("__"):
            return context.default_attr_type
        found = actor.type.get(name)
        if found is None and actor.type.get("__getattr__") is None:
            return _refused(context, f'Actor "{actor.type.name}" has no method "{name}"')
        if found is None or not _is_method(found):
            text = f'"{name}" is no method of actor "{actor.type.name}"; fields cannot be read from outside'
            return _refused(context, text)
        member = get_proper_type(_member(context, name, actor))
        if isinstance(member, CallableType):
            return self._remote(member)
        if isinstance(member, Overloaded):
            return self._instance(_METHOD, member)
        if isinstance(member, Instance) and member.type.fullname in _OWN_METHODS:
            return self._instance(_METHOD, *member.args)
        return member

    def _remote(self, method: CallableType) -> Type:
        """What a handle has for a bound method."""
        result = get_proper_type(method.ret_type)
        if isinstance(result, Instance):
            if result.type.fullname in _ASYNC_ITERATORS:
                return self._instance(_FIXED, method, self._instance(_STREAM, result.args[0]))
            if result.type.fullname == _COROUTINE and len(result.args) == 3:
                method = method.copy_modified(ret_type=result.args[2])
        return self._instance(_METHOD, method)

    def _instance(self, fullname: str, *arguments: Type) -> Instance:
        found = self.lookup_fully_qualified(fullname)
        assert found is not None, fullname
        assert isinstance(found.node, TypeInfo), fullname
        return Instance(found.node, list(arguments))


def _mark(context: ClassDefContext) -> bool:
    """Give a decorated class its attributes; their types are asked for where they are used."""
    info = context.cls.info
    if info.has_base(_TYPED_ACTOR) or any(name in info.names for name in _OFFERED):
        return True
    info.metadata[_KEY] = {"actor": True}
    for name in _OFFERED:
        variable = Var(name, AnyType(TypeOfAny.special_form))
        variable.info = info
        variable.is_classvar = True
        variable._fullname = f"{info.fullname}.{name}"
        info.names[name] = SymbolTableNode(MDEF, variable, plugin_generated=True)
    return True


def _is_method(found: SymbolTableNode) -> bool:
    node = found.node
    if isinstance(node, Decorator):
        return not node.func.is_property
    if isinstance(node, OverloadedFuncDef):
        return not node.is_property
    return isinstance(node, FuncDef)


def _member(context: AttributeContext, name: str, owner: Instance) -> Type:
    assert isinstance(context.api, TypeChecker)
    return context.api.expr_checker.analyze_external_member_access(name, owner, context.context)


def _refused(context: AttributeContext, text: str) -> Type:
    context.api.fail(text, context.context, code=ATTR_DEFINED)
    return AnyType(TypeOfAny.from_error)


def plugin(version: str) -> type[Plugin]:
    """What mypy calls.

    Args:
        version: of mypy.
    """
    return RayPlugin
