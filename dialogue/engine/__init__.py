"""dialogue/engine"""
