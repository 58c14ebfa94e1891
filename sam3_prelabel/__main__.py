"""``python -m sam3_prelabel`` is the command ``sam3-prelabel``."""

from sam3_prelabel.cli import main

if __name__ == "__main__":
    main()
