"""A model's card as a page for people, in Markdown."""

from __future__ import annotations

from learning.card import Guarantee, ModelCard
from learning.card_results import results
from learning.result_names import headline

_EPSILONS = (
    ("as stated by the job", "epsilon"),
    ("if every other hospital colluded", "epsilon_worst"),
    ("for the attempts that were used", "epsilon_settled"),
    ("the same, if every other hospital colluded", "epsilon_settled_worst"),
    ("of held-out patients", "epsilon_evaluation"),
    ("the same, if every other hospital colluded", "epsilon_evaluation_worst"),
)
_HEADS = {"statistics": "What it says of the patients, and what the noise may have done"}


def page(card: ModelCard) -> str:
    """The card as Markdown.

    Args:
        card: The card; what it holds that no section shows is its schema's constants.
    """
    parts = [
        f"# Model {card.label}",
        f"**Intended use:** {card.intended_use}",
        _made(card),
        "## Inputs\n\n" + _inputs(card),
        *([] if not card.importance else ["## What moves it\n\n" + _importance(card)]),
        f"## {_HEADS.get(card.task.name, 'How good it is')}\n\n" + _metrics(card),
        *results(card),
        "## Whom its training protects\n\n" + _privacy(card.privacy),
        "## Digests (SHA-256)\n\n" + _digests(card),
    ]
    return "\n\n".join(parts) + "\n"


def _made(card: ModelCard) -> str:
    hospitals = "1 hospital" if card.cohort_size == 1 else f"{card.cohort_size} hospitals"
    learnt = (
        f"Task `{card.task.name}`, learnt with `{card.strategy.name}` in {card.rounds} rounds by "
        f"{hospitals}; "
    )
    if not card.handed_on_by:
        return f"{learnt}finished {card.created}."
    vouchers = ", ".join(card.handed_on_by)
    return f"{learnt}received {card.created} from others; {vouchers} vouched for it."


def _inputs(card: ModelCard) -> str:
    rows = ["| column | kind | unit | from | to |", "| --- | --- | --- | --- | --- |"]
    for column in card.schema.get("columns", ()):
        cells = [str(column.get(key, "")) for key in ("name", "kind", "unit", "low", "high")]
        rows.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _importance(card: ModelCard) -> str:
    told = (
        "Share of the predictions' variance that goes with each column, over values drawn evenly "
        "from the schema; no patient was asked, and among patients others may matter more."
    )
    rows = [told, "", "| column | total effect |", "| --- | ---: |"]
    ranked = sorted(card.importance.items(), key=lambda one: -one[1])
    return "\n".join([*rows, *(f"| {_plain(name)} | {value:.1%} |" for name, value in ranked)])


def _metrics(card: ModelCard) -> str:
    if not card.metrics:
        return "Nothing was evaluated."
    noise = (
        [] if card.noise is None else [f"Every sum bears noise of ± {1.96 * card.noise:.3g}.", ""]
    )
    rows = [*noise, "| metric | value | 95 % from | to |", "| --- | ---: | ---: | ---: |"]
    for name, metric in sorted(headline(card.metrics).items()):
        figures = (f"{one:.3f}" for one in (metric.value, metric.low, metric.high))
        rows.append("| " + " | ".join([_plain(name), *figures]) + " |")
    return "\n".join(rows)


def _privacy(privacy: Guarantee) -> str:
    if privacy.mode == "none":
        return "**Nobody:** it was trained without differential privacy."
    lines = [
        f"Mode `{privacy.mode}`, for one {privacy.unit}; epsilon at delta {privacy.delta:.1g}:"
    ]
    lines.append("")
    for words, field in _EPSILONS:
        value = getattr(privacy, field)
        if value is not None:
            lines.append(f"- {words}: {value:.4g}")
    return "\n".join(lines)


def _digests(card: ModelCard) -> str:
    fields = ("job", "roster", "layout", "weights")
    return "\n".join(f"- {name}: `{getattr(card.digests, name)}`" for name in fields)


def _plain(text: str) -> str:
    """A cell that a column's name cannot break out of."""
    return text.replace("|", "\\|").replace("\n", " ")
