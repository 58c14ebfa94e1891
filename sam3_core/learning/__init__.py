"""Learning from reviewed images: what was found and what people made of it become lessons for the next search.

Numbers and masks only; nothing in here runs the model or knows where reviews come from.
"""
