"""The commands: each has a `main(argv)` that a script and `yolo-slim <command>` call alike."""
