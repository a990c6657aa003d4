"""Who may be admitted, in plain Python: every running request is asked what it holds and may still need."""

from __future__ import annotations

FIRST_SHARE, LEAST_SHARE = 0.7, 0.7 * 0.14
EASED_A_STEP = (FIRST_SHARE - LEAST_SHARE) / 600


def blocks_for(tokens: int, block: int) -> int:
    """Return the KV blocks that hold `tokens`: the quotient, rounded up."""
    return -(-tokens // block)


def known(request) -> int:
    """Return the tokens of a request that are known: its prompt, and what it has made of its answer."""
    return request.prompt + request.generated


def needed(engine, request) -> int:
    """Return the tokens for which a request needs room, and a block for what a part of one wastes."""
    return known(request) + (1 - request.shared) * engine.block


def first_chunk(engine, request, tokens, joined) -> bool:
    """The tokens that it takes in this step must fit."""
    end = request.computed + request.found + tokens
    return engine.blocks_for(end) - request.shared <= engine.free_blocks


def full_prompt(engine, request, tokens, joined) -> bool:
    """All that is known of it must fit."""
    return engine.blocks_for(known(request)) - request.shared <= engine.free_blocks


def reserve_output(engine, request, tokens, joined) -> bool:
    """Prompt and longest answer must fit beside those of all that run; the first one only its prompt."""

    def whole(one) -> int:
        return engine.blocks_for(one.prompt + max(one.output, engine.max_output_tokens))

    reserved = sum(map(whole, engine.everyone()))
    fits = not engine.everyone() or reserved + whole(request) <= engine.kv_blocks
    return fits and full_prompt(engine, request, tokens, joined)


def reserve_share(engine, request, tokens, joined) -> bool:
    """It must fit with its longest answer, newcomers with theirs, and a share of what all others may make."""

    def may_make(one) -> int:
        return min(max(one.output, engine.max_output_tokens) - one.output + one.left(), 4096)

    older = sum(may_make(one) for one in engine.running if one not in joined)
    newer = sum(may_make(one) + engine.block for one in joined)
    free = engine.free_blocks * engine.block - newer - engine.share.now() * older
    fits = not engine.everyone() or needed(engine, request) + may_make(request) < free
    return fits and full_prompt(engine, request, tokens, joined)


ADMISSIONS = {
    "first_chunk": first_chunk,
    "full_prompt": full_prompt,
    "reserve_output": reserve_output,
    "reserve_share": reserve_share,
}


class Share:
    """The share of longest answers for which there is room: it eases, and a shortage raises it."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self.start, self.steps = FIRST_SHARE, 0

    def now(self) -> float:
        return max(self.start - EASED_A_STEP * self.steps, LEAST_SHARE)

    def after(self, engine, work) -> None:
        """Move on by a step of decodes, or after a shortage to what the running have made, and more."""
        if work.preempted:
            made = sum(one.output - one.left() + 20 for one in engine.running)
            limits = sum(max(one.output, engine.max_output_tokens) for one in engine.running)
            self.start, self.steps = min(made / (limits + 1), 1.0), 0
        elif work.decodes:
            self.steps += 1
