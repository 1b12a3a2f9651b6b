"""dialogue/skills"""
