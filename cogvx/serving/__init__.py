"""Pages for people who judge clips: a local web server with tokens, clips in the browser, a journal of answers."""
