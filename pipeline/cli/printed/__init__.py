"""What the commands print for people when they have done their work; one function a command.

In: what a command answers. Out: lines on the screen.
"""
