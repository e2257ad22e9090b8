"""The report's figures, as Altair charts: a function of a comparison each, in a module a question.

`style` has what they share: colours, axes, and how a click on one model fades the others. No chart says a thing in colour
alone: names stand beside it, or symbols, and hovering names the model.
"""
