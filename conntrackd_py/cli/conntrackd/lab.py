"""`conntrackd-py lab`: its options. lab/run.py is the show."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", action="store_true", help="leave it up to play with, until Ctrl-C")
