"""People: what the rooms share about onboarding, HR's desk, the weekly loop and privacy.

Everything in here is arithmetic, text or one database transaction; the model is the worker's and the chat is the bots'.
"""
