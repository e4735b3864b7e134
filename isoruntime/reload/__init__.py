"""`--reload`: seeing that a function's files have changed, and having the newer code tried.

`look` says what a folder looks like, `watcher` when it has come to look otherwise (in a
thread of its own), and `reloading` has the functions concerned reloaded (in the loop).
Nothing here is imported unless `--reload` is given, and nothing of it reaches workers:
their zygote is another program, to which no descriptor of ours is passed.
"""
