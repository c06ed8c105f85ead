"""TEMP"""


def make_demo(p):
    raise NotImplementedError
