"""How much of a prediction comes from the graph and how much from the text, and from which words of it.

shapley        exact Shapley values of two modalities, or of a few players
share          the two over a data set, under stated baselines
parts          which part of a description says what
part_shares    Shapley values of the parts, with the crystal there and without
leakage        texts that carry their own target
edits          standard counterfactual texts, and texts that say the same
edit_effects   what they do to predictions
substitution   replacing words exactly
passes         many pairs of crystal and text through a network at once
items          samples read, references drawn
options        how to run
structure_rows all of it for one structure
analysis       all of it over a data set
summary        its figures with intervals
findings       a diagnosis with the rules that read it
probe          one structure, one changed text
"""
