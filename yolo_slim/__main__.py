"""`python -m yolo_slim <command>`: as `yolo-slim <command>`."""

from yolo_slim.cli import main

if __name__ == "__main__":
    main()
