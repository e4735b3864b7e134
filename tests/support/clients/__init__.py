"""The platform's own clients, each behind the same few words: calls in, what came of them out."""
