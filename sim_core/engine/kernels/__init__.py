"""Everything compiled: the batching engine, from admission to the last token.

The engine follows the scheduler's rules one step at a time, but walks nothing that does not change:

* A decode is due at a known tick (`clock`), so the next finish is a look-up in a ring of due ticks, and
  the tokens that a decode holds follow from its due tick.
* Between two events (a finish, an arrival that can join, a block shortage, a context that outgrows the
  sliding window) all steps have the same batch, and their times form an arithmetic series.
* A decode takes a new KV block every `block_tokens` ticks, always in the same phase, so the demand of a
  tick is a look-up in a histogram of phases.

The kernels know no physics: a `StepCost` prices a step from a few counts. They draw no random numbers
and check no input; `sim_core.engine.run` does that.

Two rules keep them quick, to run and to compile:

* No call that passes `Arrays` stays in the path of every step: they are handed over by value, some 130
  arguments at a time. What every step needs is inlined; only what is rare is called.
* Every function is compiled for one set of types: bare numbers are types of their own, and so are the
  32-bit fields of a request, so both are given as `ZERO`, `ONE` or `np.int64(...)`.
"""
