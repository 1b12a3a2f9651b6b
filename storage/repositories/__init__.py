"""storage/repositories"""
