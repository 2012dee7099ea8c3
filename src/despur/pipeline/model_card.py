"""The model card of an exported model: README.md with what was done, on what, and what it did to every group."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from despur.metrics import AccuracyReport
from despur.mitigate.methods import find_method
from despur.mitigate.runs import Run
from despur.report.words import NOTHING, rate_text

UNKNOWN_LICENCE = "other"
"""What model hubs expect where a licence is none of the usual ones."""


@dataclass(frozen=True)
class CardContent:
    """What a card says.

    Attributes:
        model, dataset: their specs, as other people may read them.
        random_weights: whether the encoders were drawn at random.
        library: "open_clip" or "transformers", as model hubs call them; None for heads alone.
        licence: as the user gave it; None: not given.
        run: what was exported.
        subject: what the model is to lean on less, in words; empty where no shortcut is known.
        groups_note: what a reader must know of the groups; may be empty.
        blend: share of the trained weights, in [0, 1].
        prompts: what the text side read when the accuracies were found, in words.
        split: where the accuracies are from.
        images: in that split; some may be in no group.
        before, after: of the model as it came and of the exported weights.
        usage: Python that loads the folder.
        version: despur's.
    """

    model: str
    dataset: str
    random_weights: bool
    library: str | None
    licence: str | None
    run: Run
    subject: str
    groups_note: str
    blend: float
    prompts: str
    split: str
    images: int
    before: AccuracyReport
    after: AccuracyReport
    usage: str
    version: str


def card(content: CardContent) -> str:
    """The card as Markdown, behind the fields that model hubs read."""
    fields: dict[str, object] = {"license": content.licence or UNKNOWN_LICENCE}
    if content.library is not None:
        fields |= {"library_name": content.library, "pipeline_tag": "zero-shot-image-classification"}
    fields["tags"] = ["clip", "despur", "group-robustness"]
    method = find_method(content.run.method)
    licence = content.licence or (
        "not stated. The weights derive from the model named above, whose licence goes on to hold; fill in this field "
        "before you pass them on."
    )
    settings = ", ".join(f"{name} {value}" for name, value in content.run.settings.model_dump(mode="json").items())
    drawn = "\n**The encoders' weights were drawn at random: nothing here says anything about a trained model.**\n"
    return f"""---
{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).strip()}
---

# {content.model}, heads retrained: {method.title}

The image and text encoders are those of `{content.model}`. Its projections and temperature were retrained by despur
{content.version}{_purpose(content.subject)}.
{drawn if content.random_weights else ""}
* Method: {method.title} (`{content.run.method}`), seed {content.run.seed}; validation kept epoch
  {content.run.best_epoch}.
* Settings: {settings}.
* Weights: {_weights(content.blend)}
* Data: `{content.dataset}`; accuracies are of its {content.split} split.
* Licence: {licence}

## What it did to each group

{_table(content)}

Rates are percentages, in brackets the 95% interval. The text side read {content.prompts};
other prompts give other numbers. Classes that are not in this table were not evaluated: check those that you use.
{_note(content.groups_note)}
## How to load it

FOLDER is where this file lies.

```python
{content.usage}
```
"""


def _note(note: str) -> str:
    return f"\n{note[0].upper()}{note[1:]}.\n" if note else ""


def _purpose(subject: str) -> str:
    return f" so that the model leans less on *{subject}*" if subject else ""


def _weights(blend: float) -> str:
    if blend == 1:
        return "the retrained ones."
    return f"{1 - blend:g} of the original and {blend:g} of the retrained ones."


def _table(content: CardContent) -> str:
    before, after = content.before, content.after
    rows = [
        (
            old.name,
            str(old.n),
            _rate(old.accuracy, old.ci_low, old.ci_high),
            _rate(new.accuracy, new.ci_low, new.ci_high),
        )
        for old, new in zip(before.groups, after.groups, strict=True)
    ]
    rows.append(("average", str(content.images), rate_text(before.average), rate_text(after.average)))
    rows.append(("worst group", "", rate_text(before.worst_group), rate_text(after.worst_group)))
    lines = ["| group | images | before | after |", "| --- | ---: | ---: | ---: |"]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)])


def _rate(rate: float | None, low: float | None, high: float | None) -> str:
    return NOTHING if rate is None else f"{rate_text(rate)} ({rate_text(low)}–{rate_text(high)})"
