"""The widgets without a browser."""


def picture_of(widget, **view):
    """The picture of a widget after one has gone to another place."""
    widget.view = {**widget.view, **view}
    return widget.static_figure()
