"""What the worker does for people beside answering questions: onboarding texts, summaries, drafts, the weekly loop."""
