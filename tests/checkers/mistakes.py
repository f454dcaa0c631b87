"""Every line here is wrong: which do checkers find? Never run; docs/typing.md has their answers."""

from definitions import (
    Agent,
    by_name,
    config,
    every,
    fetch,
    load,
    longest,
    named,
    outer_lazy,
    pair,
    query,
    spin,
    text,
    total,
)

import cascade as cs

named("a")  # wrong value
named(text("a"))  # lazy of another type
named(fetch(1))  # lazy of another type, of a coroutine
named()  # missing argument
named(1, 2)  # too many
named(y=1)  # unknown name
total([1], scal=named(1))  # unknown name, beside a lazy argument
total(["a"])  # wrong item
total([1, text("a")])  # lazy item of another type
total([1, named(2), "c"])  # wrong item, beside a lazy one
by_name({"a": text("b")})  # lazy value of another type in a dict
pair((named(1), named(2)))  # lazy value of another type in a tuple
longest([named(1)])  # lazy value of another type in a Sequence
every(1, text("a"))  # lazy value of another type in *args
query(1)  # wrong value, beside an injected one
outer_lazy(text("a"))  # task that returns LazyResult[R]
Agent().step("a")  # wrong value for a method
text.map(x=[1])  # wrong item in a map
text.map(x=load("a"))  # lazy list of another type in a map
text.map(y=["a"])  # wrong name in a map
text.map()  # missing list in a map
text.map(["a"])  # no name in a map
named.tail("x")  # wrong value in a tail call
named.tail(text("x"))  # lazy value of another type in a tail call
spin.tail(1, 2, 3)  # too many in a tail call
named(cs.Param("x", type=str))  # parameter of another type
named(cs.Param("x"))  # parameter of no type, which is a str
named(config()["a"] + "b")  # sum of different types
text(config()["a"])  # item of another type
config()[1]  # wrong key
named(1)["a"]  # no items
cs.run(named)  # task in place of a call
named(1).with_retry("3")  # wrong policy
string: str = cs.run(named(1))  # wrong type of a result
value: int = named(1)  # lazy value in place of its value
if named(1):  # lazy value as a condition
    pass
named(1).foo  # attribute
for _ in named(1):  # loop over a lazy value
    pass
named(1)()  # call of a lazy value
len(load("x"))  # length of a lazy value
int(named(1))  # number of a lazy value
named.func("a")  # wrong value for the function itself
cs.nosuch  # unknown public name
