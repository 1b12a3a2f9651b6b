"""dialogue/engine/bench"""
