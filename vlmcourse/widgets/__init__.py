"""What you click in a notebook: attention maps, scenes, quizzes and live plots.

They take arrays and labels, never models.
"""
