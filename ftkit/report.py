"""stub"""


def write_run_report(*a):
    pass


def write_evaluation_report(*a):
    pass
