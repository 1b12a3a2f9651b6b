"""dialogue/knowledge"""
